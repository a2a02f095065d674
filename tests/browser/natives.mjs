// Paints pictures, and has la-cli embed them and find their neighbours, for page.mjs --native:
//
//   node tests/browser/natives.mjs LA_CLI RUN FOLDER        # writes FOLDER/natives.json and FOLDER/pictures/*.png
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { launch, picture } from './pages.mjs';

const [program, run, folder] = process.argv.slice(2).map((argument) => resolve(argument));
const pictures = join(folder, 'pictures');
mkdirSync(pictures, { recursive: true });
const browser = await launch(), page = await browser.newPage();
await page.goto('about:blank');
const files = [];
for (const hue of [0, 80, 200, 300]) {
  files.push(join(pictures, `hue-${hue}.png`));
  writeFileSync(files.at(-1), await picture(page, hue));
}
await browser.close();

const la = (...args) => execFileSync(program, args, { encoding: 'utf8' });
const { train } = JSON.parse(readFileSync(join(run, 'config.json'), 'utf8'));
const limit = train.limit ? ['--limit', train.limit] : [];
const { queries } = JSON.parse(la('search', run, '--data', train.data, '--split', 'train', ...limit, '--json', '--k', '10', '--query', ...files));
la('embed', run, '--data', pictures, '--out', join(folder, 'pictures.safetensors'), '--force');
const { embeddings, names } = read(join(folder, 'pictures.safetensors'));
writeFileSync(join(folder, 'natives.json'), JSON.stringify(files.map((file, i) => ({
  file, embedding: embeddings[names.findIndex((name) => file.endsWith(name))], neighbors: queries[i].neighbors.map(({ index }) => index),
}))));

// The rows and names that `la-cli embed` has written.
function read(path) {
  const bytes = readFileSync(path), length = Number(bytes.readBigUInt64LE(0)), header = JSON.parse(bytes.subarray(8, 8 + length));
  const { shape: [count, dim], data_offsets: [start] } = header.embeddings;
  const value = (row, i) => bytes.readFloatLE(8 + length + start + 4 * (row * dim + i));
  const embeddings = Array.from({ length: count }, (_, row) => Array.from({ length: dim }, (_, i) => value(row, i)));
  return { embeddings, names: JSON.parse(header.__metadata__.images).names };
}
