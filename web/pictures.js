// Pictures: files to pixels, and thumbnails of the bank from its sheets.
// As many pixels as la-core's data::decode opens.
const MAX_PIXELS = 64 * 2 ** 20, MAX_SHEETS = 4, THUMB = 128;

export const looksLikePicture = ({ type, name }) => type ? type.startsWith('image/') : /\.(jpe?g|png|webp|gif|bmp|avif|heic)$/i.test(name);

const unopened = ({ type }) => /^image\/(jpeg|png|webp|gif)$/.test(type)
  ? `expected a picture that this browser can open, got ${type} whose content is damaged, too large or no picture`
  : `expected a picture that this browser can open (JPEG, PNG, WebP, GIF), got ${type || 'a file of unknown type'}`;

export async function decode(file) {
  const name = file.name || 'the pasted file';
  if (!file.size) throw new Error(`${name}: expected a picture, got an empty file`);
  // Values as they lie in the file: no colour management, no multiplying by alpha.
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' }).catch(() => { throw new Error(`${name}: ${unopened(file)}`); });
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) { bitmap.close(); throw new Error(`${name}: expected at most ${MAX_PIXELS / 2 ** 20} megapixels, got ${width} × ${height}`); }
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const side = Math.min(width, height);
  const thumb = await createImageBitmap(bitmap, (width - side) >> 1, (height - side) >> 1, side, side, { resizeWidth: THUMB, resizeHeight: THUMB, resizeQuality: 'high' });
  bitmap.close();
  return { pixels: new Uint8Array(context.getImageData(0, 0, width, height).data.buffer), width, height, thumb };
}

// Paints rows of the bank, one after another. Few sheets are held decoded: those of a large bank would fill the memory.
export function createThumbnails(layout, readSheet) {
  const decoded = new Map();
  let queue = Promise.resolve();
  async function bitmapOf(sheet) {
    const bitmap = decoded.get(sheet) ?? await createImageBitmap(await readSheet(sheet));
    decoded.delete(sheet);
    decoded.set(sheet, bitmap);
    if (decoded.size > MAX_SHEETS) {
      const [oldest] = decoded.keys();
      decoded.get(oldest).close();
      decoded.delete(oldest);
    }
    return bitmap;
  }
  async function paint(canvas, row) {
    const stale = () => !canvas.isConnected || canvas.dataset.shows !== String(row);
    if (stale()) return;
    const bitmap = await bitmapOf(Math.floor(row / layout.per_sheet));
    if (stale()) return;
    const at = row % layout.per_sheet, x = at % layout.columns, y = Math.floor(at / layout.columns), { size } = layout;
    fill(canvas, bitmap, size > 48, x * size, y * size, size, size);
  }
  return (canvas, row) => {
    canvas.dataset.shows = row;
    const painted = queue.then(() => paint(canvas, row));
    queue = painted.catch(() => {});
    return painted;
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
  // A reader gives its entries in portions, an empty one at the end.
  for (let more; (more = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length;) found.push(...more);
  return (await Promise.all(found.map(filesUnder))).flat();
}
