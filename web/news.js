// Says that the folder has other pictures than this page, where the server follows it; a button shows them.
import { changeAddress } from './address.js';
import { ask } from './client.js';
import { $, bankRows, counted, nameOf, state } from './state.js';

const PAUSE = 4000;

// Asks now and then, while the page is looked at.
export function listenForNews() {
  if (!state.bundle.follows) return;
  $('news-show').onclick = show;
  setInterval(() => document.hidden || isReplaced(), PAUSE);
}

// Whether the server has another bundle than this page, which it then says.
export async function isReplaced() {
  const rows = await ask('replaced');
  const words = rows ? wordsOf(rows - bankRows()) : '';
  // Said again, a screen reader would read it again.
  if ($('news-text').textContent !== words) $('news-text').textContent = words;
  $('news').hidden = !rows;
  return Boolean(rows);
}

function wordsOf(more) {
  const change = more ? `: ${counted(Math.abs(more), 'picture')} ${more > 0 ? 'more' : 'fewer'}` : '';
  return `The folder has changed${change}.${state.brought.size ? ' What you brought has to be brought again.' : ''}`;
}

// Rows have other numbers there: the address takes the picture's name along.
function show() {
  const row = state.query?.row;
  if (row < bankRows()) changeAddress({ name: nameOf(row), row: null, also: null, not: null }, true);
  location.reload();
}
