// Pieces of the page: cards in a list, the vote.
export function make(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
}

const CARD = 160;
const LENS = '<svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="9" cy="9" r="5.5"/><path d="M13 13l4 4"/></svg>';

// `item` is { row, name, label, score?, group?, isSame? }, `isSame` where the card before is of its group; `paint` is
// null where the row has no picture: then the words are the button.
function card(item, paint, { onLook, onPick, onRemove }) {
  const { row, score, group, isSame } = item, entry = make('li');
  entry.dataset.row = row;
  if (group !== undefined) entry.dataset.group = group % 2;
  entry.classList.toggle('same', Boolean(isSame));
  const caption = captionOf(shortName(item.name), item.label);
  entry.append(...(paint ? [pictureOf(item, paint, onLook, onPick), ...caption] : [wordsOf(item, onPick)]));
  if (score !== undefined) (entry.querySelector('.words') ?? entry).append(scoreLine(score));
  const away = { className: 'remove', ariaLabel: `Remove ${item.name}`, onclick: () => onRemove(row) };
  if (onRemove) entry.append(button(away, 'Remove'));
  return entry;
}

const button = (props, ...children) => make('button', { type: 'button', ...props }, ...children);
const wordsOf = (item, onPick) => button(
  { className: 'search words', title: item.name, onclick: () => onPick(item.row) }, ...captionOf(item.name, item.label),
);

// The picture opens a large view, the lens in its corner searches from it.
function pictureOf({ row, name }, paint, onLook, onPick) {
  const canvas = make('canvas', { width: CARD, height: CARD, ariaHidden: 'true' });
  paint(canvas, row);
  const look = { className: 'look', title: name, ariaLabel: `Show ${name}`, onclick: () => onLook(row) };
  const search = button({ className: 'search lens', title: 'Find similar pictures', onclick: () => onPick(row) });
  search.ariaLabel = `Find pictures similar to ${name}`;
  search.innerHTML = LENS;
  return make('div', { className: 'picture' }, button(look, canvas), search);
}

// The folders before it stand in the large view and in the title.
const shortName = (name) => name.split('/').pop() || name;

function captionOf(words, label) {
  const name = make('span', { className: 'name' }, words);
  return label ? [name, make('span', { className: 'label' }, label)] : [name];
}

function scoreLine(score) {
  const bar = make('span', { className: 'score-bar', ariaHidden: 'true' });
  bar.style.setProperty('--score', score);
  return make('span', { className: 'score' }, make('span', { className: 'sr' }, 'similarity '), score.toFixed(3), bar);
}

// Fills a list with cards. Focus stays on its row, or goes to `otherwise` where that row is no longer shown.
export function showCards(list, items, paintOf, actions, otherwise) {
  const active = document.activeElement, held = list.contains(active) ? active.closest('li')?.dataset.row : undefined;
  const kind = active?.classList.contains('look') ? '.look' : '.search';
  list.replaceChildren(...items.map((item) => card(item, paintOf(item.row), actions)));
  if (held === undefined) return;
  const again = list.querySelector(`[data-row="${held}"] ${kind}`) ?? otherwise(list);
  again?.focus({ preventScroll: true });
}

// The class that the similar pictures speak for, and the next two; of a picture whose class is known it is no guess.
export function showVote(box, shares, classes, isKnown) {
  box.hidden = !shares;
  if (!shares) return;
  const all = Array.from(shares, (share, index) => ({ share, index })).filter(({ share }) => share > 0.005);
  const best = all.sort((a, b) => b.share - a.share).slice(0, 3), percent = (share) => `${(100 * share).toFixed(0)} %`;
  const line = ({ share, index }) => {
    const bar = make('span', { className: 'vote-bar', ariaHidden: 'true' });
    bar.style.setProperty('--share', share);
    const number = make('span', { className: 'number' }, percent(share));
    return make('li', {}, make('span', { className: 'name' }, classes[index]), bar, number);
  };
  const [{ index, share }] = best, begin = isKnown ? 'Similar pictures are mostly ' : 'Looks like ';
  const votes = `: ${percent(share)}${isKnown ? '' : ' of the similar pictures’ vote'}`;
  const verdict = make('p', { className: 'verdict' }, begin, make('strong', {}, classes[index]), votes);
  box.replaceChildren(verdict, make('ul', { ariaLabel: 'Share of the vote' }, ...best.map(line)));
}
