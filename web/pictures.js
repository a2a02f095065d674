// Pictures: files to pixels, and thumbnails of the bank from its sheets.
// As many pixels as la-core's data::decode opens; as many of the sheets stay decoded.
const MAX_PIXELS = 64 * 2 ** 20, MAX_DECODED = 48 * 2 ** 20, THUMB = 160;

const ENDING = /\.(jpe?g|png|webp|gif|bmp|avif|heic|heif)$/i;
export const looksLikePicture = ({ type, name }) => (type ? type.startsWith('image/') : ENDING.test(name));

// Formats that few browsers open, and la-cli does not: by the file's name, or its type where it has none.
const FOREIGN = /\.(heic|heif|avif|jxl|dng|cr2|cr3|nef|arw)$/i;
export function foreignFormat({ name = '', type }) {
  const ending = FOREIGN.exec(name)?.[1] ?? /^image\/(hei[cf])/.exec(type)?.[1];
  return ending && `${ending.toUpperCase()} is not read; convert it to JPEG or PNG`;
}

function unopened(file) {
  const { type } = file;
  return foreignFormat(file) ?? (/^image\/(jpeg|png|webp|gif)$/.test(type)
    ? `expected a picture that this browser can open, got ${type} whose content is damaged, too large or no picture`
    : `expected a picture that this browser can open (JPEG, PNG, WebP, GIF), got ${type || 'a file of unknown type'}`);
}

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
  const { size, columns, per_sheet: perSheet } = layout;
  const hold = createHolder(Math.max(1, Math.floor(MAX_DECODED / (Math.max(columns, perSheet) * size * size))));
  return async (canvas, row) => {
    canvas.dataset.shows = row;
    const isStale = () => !canvas.isConnected || canvas.dataset.shows !== String(row);
    // A list puts its cards on the page after painting them.
    await null;
    if (isStale()) return;
    const index = Math.floor(row / perSheet), at = row % perSheet;
    const blob = await readSheet(index);
    await hold(index, blob, (bitmap) => {
      const x = at % columns * size, y = Math.floor(at / columns) * size;
      if (!isStale()) fill(canvas, bitmap, size > 48, x, y, size, size);
    }, isStale);
  };
}

// Decodes at most so many sheets at a time; another waits until one is free.
function createHolder(most) {
  const held = new Map(), waiting = [];
  function makeRoom() {
    for (const [index, { users, bitmap }] of held) {
      if (held.size < most) return true;
      if (users) continue;
      held.delete(index);
      bitmap.then((idle) => idle.close(), () => {});
    }
    return held.size < most;
  }
  return async (index, blob, use, isStale) => {
    while (!held.has(index) && !makeRoom()) await new Promise((resolve) => { waiting.push(resolve); });
    if (isStale()) return;
    const sheet = held.get(index) ?? { users: 0, bitmap: createImageBitmap(blob) };
    // Last in the map is used last.
    held.delete(index);
    held.set(index, sheet);
    sheet.users++;
    try { use(await sheet.bitmap); } finally {
      sheet.users--;
      waiting.splice(0).forEach((wake) => wake());
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
