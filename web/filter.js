// Which rows a visitor wants to see: by class, by a part of the name.
import { bankRows, classes, state } from './state.js';

// Rows of the bank and of the session whose name or class has `text`, in order.
export function rowsWith(text) {
  const found = new Uint8Array(bankRows()), own = [...state.added].filter(([, { name }]) => has(name, text));
  state.bundle.names.matching(text, found);
  markClasses(found, classes().map((name) => has(name, text)));
  const rows = new Uint32Array(found.length + own.length);
  let count = 0;
  for (let row = 0; row < found.length; row++) if (found[row]) rows[count++] = row;
  for (const [row] of own) rows[count++] = row;
  return rows.subarray(0, count);
}

const has = (name, text) => name.toLowerCase().includes(text.toLowerCase());

// `wanted` says of each class whether its rows are.
function markClasses(marks, wanted) {
  const { labels } = state.bundle;
  if (!wanted.includes(true)) return;
  for (let row = 0; row < marks.length; row++) if (wanted[labels[row]]) marks[row] = 1;
}

// A byte for each row, 1 where it is wanted, or nothing where all are. Pictures of the session have no class.
export function wantedRows() {
  if (!state.classes.length && !state.named) return null;
  const marks = new Uint8Array(Math.max(bankRows(), ...[...state.added.keys()].map((row) => row + 1)));
  if (state.named) rowsWith(state.named).forEach((row) => { marks[row] = 1; }); else marks.fill(1);
  if (!state.classes.length) return marks;
  const wanted = new Set(state.classes), { labels } = state.bundle;
  for (let row = 0; row < marks.length; row++) if (!wanted.has(labels?.[row])) marks[row] = 0;
  return marks;
}
