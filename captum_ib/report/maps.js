// Colours and maps. This file and gallery.js become one script of the page.

// ---- colours: 256 per palette, as six hexadecimal digits each
function palette(text) {
  const colours = new Uint8Array(768);
  for (let i = 0; i < 768; i++) colours[i] = parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return colours;
}

/** The place, 0 to 255, of a value in its palette; 0 is in the middle of the signed one. */
function place(value, top, signed) {
  const share = top > 0 ? value / top : 0;
  return Math.max(0, Math.min(255, Math.round(signed ? 127.5 + 127.5 * share : 255 * share)));
}

function colour(value, top, signed, palettes) {
  const start = 3 * place(value, top, signed);
  return Array.from(palettes[signed].subarray(start, start + 3));
}

/** Black or white, whichever contrasts more with the colour (WCAG's relative luminance). */
function readable(rgb) {
  const linear = rgb.map((c) => (c / 255 <= 0.04045 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  const luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return luminance > 0.179 ? "#000" : "#fff";
}

// ---- maps: bytes that say how much of the largest value there is
function values(result, signed) {
  if (!result.values) {
    const bytes = atob(result.map);
    result.values = Float32Array.from(bytes, (sign) => {
      const byte = sign.charCodeAt(0);
      return (signed ? (byte - 128) / 127 : byte / 255) * result.top;
    });
  }
  return result.values;
}

/** The map's value at a point of the unit square, bilinear between the centres of its cells. */
function sample(result, signed, x, y, smooth) {
  const { height: h, width: w } = result;
  const map = values(result, signed);
  if (!smooth) {
    const row = Math.min(h - 1, Math.floor(y * h));
    return map[row * w + Math.min(w - 1, Math.floor(x * w))];
  }
  const fx = Math.max(0, Math.min(w - 1, x * w - 0.5));
  const fy = Math.max(0, Math.min(h - 1, y * h - 0.5));
  const x0 = Math.floor(fx), y0 = Math.floor(fy);
  const x1 = Math.min(w - 1, x0 + 1), y1 = Math.min(h - 1, y0 + 1);
  const dx = fx - x0, dy = fy - y0;
  const above = map[y0 * w + x0] * (1 - dx) + map[y0 * w + x1] * dx;
  const below = map[y1 * w + x0] * (1 - dx) + map[y1 * w + x1] * dx;
  return above * (1 - dy) + below * dy;
}

function draw(canvas, result, signed, palettes, smooth) {
  const context = canvas.getContext("2d", { willReadFrequently: true }); // no detour by the GPU
  const { width, height } = canvas;
  const pixels = context.createImageData(width, height);
  const colours = palettes[signed];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 4) {
      const value = sample(result, signed, (x + 0.5) / width, (y + 0.5) / height, smooth);
      const start = 3 * place(value, result.top, signed);
      pixels.data[i] = colours[start];
      pixels.data[i + 1] = colours[start + 1];
      pixels.data[i + 2] = colours[start + 2];
      pixels.data[i + 3] = 255;
    }
  }
  context.putImageData(pixels, 0, 0);
}
