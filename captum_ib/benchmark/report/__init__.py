"""Tables, figures and a gallery from the folders of `captum-ib benchmark`."""
