// Draws many points at once, as pixels: 200,000 calls of fillRect take longer than a frame.
export function createPlot() {
  const canvas = new OffscreenCanvas(1, 1), context = canvas.getContext('2d');
  let image, pixels;
  function size(width, height) {
    if (image?.width === width && image.height === height) return pixels.fill(0);
    Object.assign(canvas, { width, height });
    image = context.createImageData(width, height);
    pixels = new Uint32Array(image.data.buffer);
  }
  // `place` puts a point at (x, y) to x · scale + left, top − y · scale; `colours[groups[row]]` is its colour.
  function draw(width, height, { points, groups, colours, wanted, faint }, { scale, left, top }, { side, opacity }) {
    size(width, height);
    const dots = disc(side, width), margin = Math.ceil(side / 2) + 1, strong = Math.round(255 * opacity);
    for (let row = 0; 2 * row < points.length; row++) {
      const x = Math.round(points[2 * row] * scale + left), y = Math.round(top - points[2 * row + 1] * scale);
      if (x < margin || y < margin || x >= width - margin || y >= height - margin) continue;
      const shown = !wanted || wanted[row], colour = shown ? colours[groups[row]] : faint;
      stamp(pixels, y * width + x, dots, colour, shown ? strong : strong >> 2);
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }
  return { draw };
}

// Where points lie on each other they cover more, in the colour of the last.
function stamp(pixels, at, dots, colour, opacity) {
  for (let i = 0; i < dots.length; i++) {
    const before = pixels[at + dots[i]] >>> 24, alpha = before + ((255 - before) * opacity >> 8);
    pixels[at + dots[i]] = (alpha << 24) | colour;
  }
}

// The pixels of a disc, as steps from its middle.
function disc(side, width) {
  const radius = side / 2, whole = Math.ceil(radius), steps = [];
  for (let y = -whole; y <= whole; y++) for (let x = -whole; x <= whole; x++) {
    if (Math.hypot(x + 0.25, y + 0.25) <= radius) steps.push(y * width + x);
  }
  return Int32Array.from(steps.length ? steps : [0]);
}

// A CSS colour as a pixel without its opacity.
export function pixelOf(colour) {
  const context = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
  return (blue << 16) | (green << 8) | red;
}
