// A large bank out of a small one: the bundle of a served page, repeated until it has as many rows as are asked for. Each
// repeated row is moved a little on the map; names end with the number of the copy.
import { createHash } from 'node:crypto';

export async function enlarged(site, rows, cutting) {
  const read = async (name) => Buffer.from(await (await fetch(`${site}bundle/${name}`)).arrayBuffer());
  const manifest = JSON.parse(await read('manifest.json')), files = new Map(), { bank, labels, map, thumbnails } = manifest;
  const copies = Math.ceil(rows / bank.rows), width = (entry) => entry.bytes / bank.rows * rows;
  const put = (path, bytes) => {
    files.set(path, bytes);
    return { path, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
  };
  const repeated = async (entry) => {
    const once = await read(entry.path);
    return Buffer.concat(Array(copies).fill(once)).subarray(0, width(entry));
  };
  const grown = { ...manifest, bank: { ...bank, rows, file: put('bank.bin', await repeated(bank.file)) } };
  const names = String(await read(manifest.names.path)).split('\n').slice(0, bank.rows);
  const named = Array.from({ length: rows }, (_, row) => `${names[row % bank.rows]} ${Math.floor(row / bank.rows)}\n`);
  grown.names = put('names.txt', Buffer.from(named.join('')));
  if (labels) grown.labels = { ...labels, file: put('labels.bin', await repeated(labels.file)) };
  if (map) grown.map = { ...map, file: put('map.bin', jittered(await repeated(map.file))) };
  if (thumbnails) grown.thumbnails = await moreSheets(thumbnails, rows, put, read, cutting);
  files.set('manifest.json', Buffer.from(JSON.stringify(grown)));
  return (path) => files.get(new URL(path, site).pathname.split('/').pop());
}

function jittered(bytes) {
  const points = new Float32Array(new Uint8Array(bytes).buffer);
  // A generator of its own: the same points each time.
  let seed = 1;
  const random = () => { seed = Math.imul(seed, 1664525) + 1013904223 >>> 0; return seed / 2 ** 32 - 0.5; };
  return Buffer.from(points.map((value) => Math.max(-1, Math.min(1, value + 0.04 * random()))).buffer);
}

// The first sheet under as many names as the rows need, cut to sheets of `perSheet` thumbnails in a browser's page.
async function moreSheets(thumbnails, rows, put, read, { page, perSheet, leastBytes = 0 }) {
  const { size, columns, sheets: [first] } = thumbnails, whole = (await read(first.path)).toString('base64');
  const across = Math.min(columns, Math.ceil(Math.sqrt(perSheet)));
  const cut = await page.evaluate(cutSheet, { whole, size, columns, across, perSheet });
  // What follows a picture in its file is not looked at.
  const padded = (bytes) => Buffer.concat([bytes, Buffer.alloc(Math.max(0, leastBytes - bytes.length))]);
  const parts = cut.map((part) => padded(Buffer.from(part, 'base64'))), count = Math.ceil(rows / perSheet);
  const sheets = Array.from({ length: count }, (_, index) => put(`thumbs-${index}.jpg`, parts[index % parts.length]));
  return { ...thumbnails, columns: across, per_sheet: perSheet, sheets };
}

// Runs in the page: some smaller sheets of the one, as JPEG in base64.
async function cutSheet({ whole, size, columns, across, perSheet }) {
  const image = new Image(), parts = [], canvas = document.createElement('canvas');
  image.src = `data:image/jpeg;base64,${whole}`;
  await image.decode();
  Object.assign(canvas, { width: across * size, height: Math.ceil(perSheet / across) * size });
  const context = canvas.getContext('2d'), tiles = columns * Math.floor(image.height / size);
  for (let first = 0; first + perSheet <= tiles && parts.length < 16; first += perSheet) {
    for (let i = 0; i < perSheet; i++) {
      const from = [(first + i) % columns * size, Math.floor((first + i) / columns) * size];
      context.drawImage(image, ...from, size, size, i % across * size, Math.floor(i / across) * size, size, size);
    }
    parts.push(canvas.toDataURL('image/jpeg', 0.75).split(',')[1]);
  }
  return parts;
}
