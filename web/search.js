// Makes the page what its address says: which picture is asked about, and what is similar to it.
import { changeAddress, readAddress } from './address.js';
import { ask } from './client.js';
import { wantedRows } from './filter.js';
import { bankRows, counted, isRow, nameOf, render, state, total } from './state.js';

// `choices` counts what visitors choose: what was chosen before and answers later changes the page no more.
let latest = 0, choices = 0;
export const choose = () => ++choices;
export const isLatest = (choice) => choice === choices;

export function go(changes, replace = false) {
  // How a picture is shown is no choice of another.
  if ('row' in changes) choose();
  changeAddress(changes, replace);
  return follow();
}

// Rows of the session have another number at the next visit: the address names them by their content.
const referenceTo = (row) => state.added.get(row)?.digest ?? String(row);
const rowOf = (reference) => state.brought.get(reference)?.row ?? (/^\d+$/.test(reference) ? Number(reference) : -1);
const PLAIN = { also: null, not: null, name: null };
export function goToRow(row) {
  const { digest } = state.added.get(row) ?? {};
  return go({ row: digest ? null : String(row), drop: digest ?? null, ...PLAIN });
}
export const goToPicture = ({ digest }) => go({ drop: digest, row: null, ...PLAIN });

// Asks for pictures like this row too, or unlike it; or no longer.
export function weigh(row, how) {
  const { also, against } = state.query, line = (rows) => rows.map(referenceTo).join(',');
  const without = (rows) => rows.filter((one) => one !== row);
  const lists = { also: without(also), not: without(against) };
  if (how) lists[how].push(row);
  choose();
  return go({ also: line(lists.also), not: line(lists.not) });
}

export async function follow() {
  const { drop, row: given, name, also, against, ...settings } = readAddress();
  const picture = state.brought.get(drop), row = name ? state.bundle.names.find(name) : Number(given ?? 0);
  Object.assign(state, settings, { error: '', empty: '', address: location.search });
  if (row < 0 && name) return lose(`${name} is not among these ${counted(total(), 'picture')}.`);
  const isGone = drop ? !picture : Number.isInteger(row) && row >= bankRows() && !state.added.has(row);
  if (isGone) return lose(goneWords(drop, row));
  if (!drop && !isRow(row)) throw new Error(`?row=: expected a row of the bank, 0 to ${total() - 1}, got ${given}`);
  const rowsOf = (references) => references.map(rowOf).filter(isRow);
  const own = drop ? { ...picture, drop } : { row, name: nameOf(row), thumb: state.added.get(row)?.thumb };
  await seek({ ...own, also: rowsOf(also), against: rowsOf(against) });
}

function goneWords(drop, row) {
  const what = drop ? 'The picture of this address'
    : `Row ${row} is not among these ${counted(total(), 'picture')}. If it was a picture you brought, it`;
  return `${what} is gone: what visitors bring never leaves this machine and is forgotten when the page is `
    + 'closed or loaded anew, unless they keep it. Drop or choose it again, or pick one of these pictures.';
}

function lose(empty) {
  Object.assign(state, { query: null, result: null, status: '', empty });
  latest++;
  render();
}

export async function seek(query = state.query) {
  if (!query) return render();
  const mine = ++latest, { k, min } = state, { row, also, against } = query, wanted = wantedRows();
  const first = row === undefined ? { embedding: query.embedding } : { row };
  const result = await ask('search', { ...first, also, against, k, min, wanted });
  if (mine !== latest) return;
  const isPlain = !also.length && !against.length, { best } = result;
  result.isFar = Boolean(isPlain && state.usual && best !== undefined && best < state.usual.low);
  Object.assign(state, { query, result: { ...result, wanted } });
  state.outcome = result.neighbours.length ? outcome(query, state.result, min) : '';
  if (!state.indexing) state.status = state.outcome || outcome(query, state.result, min);
  render();
}

export const isAlone = ({ row }) => row !== undefined && total() === 1;
const isFiltered = () => Boolean(state.classes.length || state.named);
function outcome(query, { neighbours, isFar, best }, min) {
  if (isAlone(query)) return `There is no picture but ${query.name}.`;
  if (best === undefined && isFiltered()) return 'No picture has this class and name.';
  if (!neighbours.length) {
    return `Nothing has a similarity of ${min.toFixed(2)} or more to ${query.name}: lower the minimum.`;
  }
  const [{ row, score }] = neighbours, nearest = `the nearest is ${nameOf(row)}, at ${score.toFixed(3)}.`;
  if (isFar) return `Nothing similar to ${query.name} here; ${nearest}`;
  return `${counted(neighbours.length, 'picture')} similar to ${query.name}; ${nearest}`;
}
export const emptyWords = (query) => (query && isAlone(query) ? 'There is no other picture.'
  : isFiltered() ? 'No picture of this class and name is so similar.' : 'No picture is so similar.');
