// Pictures: files to pixels, and thumbnails of the bank from its sheets.
// As many pixels as la-core's data::decode opens; as many of the sheets stay decoded.
const MAX_PIXELS = 64 * 2 ** 20, MAX_DECODED = 48 * 2 ** 20, THUMB = 160;

const ENDING = /\.(jpe?g|png|webp|gif|bmp|avif|heic|heif)$/i;
export const looksLikePicture = ({ type, name }) => (type ? type.startsWith('image/') : ENDING.test(name));

const unopened = ({ type }) => /^image\/(jpeg|png|webp|gif)$/.test(type)
  ? `expected a picture that this browser can open, got ${type} whose content is damaged, too large or no picture`
  : `expected a picture that this browser can open (JPEG, PNG, WebP, GIF), got ${type || 'a file of unknown type'}`;

export async function decode(file) {
  const name = file.name || 'the pasted file';
  if (!file.size) throw new Error(`${name}: expected a picture, got an empty file`);
  // Values as they lie in the file: no colour management, no multiplying by alpha.
  const asItLies = { colorSpaceConversion: 'none', premultiplyAlpha: 'none' };
  const refuse = () => { throw new Error(`${name}: ${unopened(file)}`); };
  const bitmap = await createImageBitmap(file, asItLies).catch(refuse);
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) {
    bitmap.close();
    throw new Error(`${name}: expected at most ${MAX_PIXELS / 2 ** 20} megapixels, got ${width} × ${height}`);
  }
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const thumb = await thumbOf(bitmap, width, height);
  bitmap.close();
  return { pixels: new Uint8Array(context.getImageData(0, 0, width, height).data.buffer), width, height, thumb };
}

// The middle square.
function thumbOf(bitmap, width, height) {
  const side = Math.min(width, height), small = { resizeWidth: THUMB, resizeHeight: THUMB, resizeQuality: 'high' };
  return createImageBitmap(bitmap, (width - side) >> 1, (height - side) >> 1, side, side, small);
}

// Paints rows of the bank from their sheets. Few sheets are held decoded: those of a large bank would fill the memory.
export function createThumbnails(layout, readSheet) {
  const decoded = new Map();
  function sheetOf(index) {
    const held = decoded.get(index) ?? { users: 0, bitmap: readSheet(index).then((blob) => createImageBitmap(blob)) };
    // Last in the map is used last.
    decoded.delete(index);
    decoded.set(index, held);
    held.bitmap.then(({ width, height }) => { held.pixels = width * height; }, () => decoded.delete(index));
    return held;
  }
  function dropOld() {
    let pixels = [...decoded.values()].reduce((sum, held) => sum + (held.pixels ?? 0), 0);
    for (const [index, held] of decoded) {
      if (pixels <= MAX_DECODED) return;
      if (held.users || !held.pixels) continue;
      decoded.delete(index);
      held.bitmap.then((bitmap) => bitmap.close());
      pixels -= held.pixels;
    }
  }
  const isStale = (canvas, row) => !canvas.isConnected || canvas.dataset.shows !== String(row);
  return async (canvas, row) => {
    canvas.dataset.shows = row;
    // A list puts its cards on the page after painting them.
    await null;
    if (isStale(canvas, row)) return;
    const held = sheetOf(Math.floor(row / layout.per_sheet)), at = row % layout.per_sheet, { size, columns } = layout;
    held.users++;
    try {
      const bitmap = await held.bitmap;
      const x = at % columns * size, y = Math.floor(at / columns) * size;
      if (!isStale(canvas, row)) fill(canvas, bitmap, size > 48, x, y, size, size);
    } finally {
      held.users--;
      dropOld();
    }
  };
}

export function fill(canvas, bitmap, smooth, ...from) {
  const context = canvas.getContext('2d'), { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, ...(from.length ? from : [0, 0, bitmap.width, bitmap.height]), 0, 0, width, height);
}

// The files of a drop, those inside dropped folders included.
export async function filesOf({ items, files }) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...files];
  return (await Promise.all(entries.map(filesUnder))).flat();
}

async function filesUnder(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader(), found = [];
  const next = () => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
  // A reader gives its entries in portions, an empty one at the end.
  for (let more; (more = await next()).length;) found.push(...more);
  return (await Promise.all(found.map(filesUnder))).flat();
}
