// What is similar, as a file: a table, JSON, or paths alone.
import { classOf, nameOf, state } from './state.js';

const found = () => state.result.neighbours.map(({ row, score }, i) =>
  ({ rank: i + 1, row, name: nameOf(row), class: classOf(row), similarity: Number(score.toFixed(6)) }));

const quoted = (value) => `"${String(value).replaceAll('"', '""')}"`;
function csv() {
  const columns = ['rank', 'row', 'name', 'class', 'similarity'];
  const lines = [columns, ...found().map((one) => columns.map((column) => one[column]))];
  return lines.map((line) => `${line.map(quoted).join(',')}\r\n`).join('');
}
function json() {
  const { bundle, query, min } = state;
  return JSON.stringify({ bundle: bundle.manifest.title, query: query.name, minimum: min, results: found() }, null, 2);
}
const list = () => found().map(({ name }) => `${name}\n`).join('');

const KINDS = { csv: [csv, 'text/csv'], json: [json, 'application/json'], txt: [list, 'text/plain'] };

export function download(kind) {
  const [write, type] = KINDS[kind], address = URL.createObjectURL(new Blob([write()], { type }));
  const link = Object.assign(document.createElement('a'), { href: address, download: `similar.${kind}` });
  link.click();
  // Some browsers read the address after the click.
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
