// What the page shows, and the words for it. Code that changes the state calls render().
export const state = {
  bundle: null, threads: null, progress: null, failed: false, error: '', status: '', outcome: '', offline: '',
  brought: new Map(), added: new Map(), keeps: false, indexing: null, usual: null,
  address: '', query: null, result: null, empty: '', k: 12, min: -1, classes: [], named: '',
};
// The tests in tests/browser look at it.
window.laState = state;

let draw = () => {};
export const render = () => draw();
export const onRender = (work) => { draw = work; };

export function fail(error) { state.error = error.message; render(); }
export const guarded = (work) => (...args) => Promise.resolve().then(() => work(...args)).catch(fail);

export const $ = (id) => document.getElementById(id);
export const bankRows = () => state.bundle.manifest.bank.rows;
// Pictures that were taken away leave holes in the row numbers, not in what is shown.
export const total = () => bankRows() + state.added.size;
export const rowAt = (place) => (place < bankRows() ? place : [...state.added.keys()][place - bankRows()]);
export const isRow = (row) => Number.isInteger(row) && row >= 0 && (row < bankRows() || state.added.has(row));

export const classes = () => state.bundle.manifest.labels?.classes ?? [];
export const nameOf = (row) => state.added.get(row)?.name ?? (state.bundle.names.of(row) || `row ${row}`);
export const classOf = (row) => classes()[state.bundle.labels?.[row]] ?? '';
export const labelOf = (row) => (state.added.has(row) ? 'added by you' : classOf(row));
export const itemOf = (row, score) => ({ row, name: nameOf(row), label: labelOf(row), score });
export const counted = (n, what) => `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
