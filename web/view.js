// Pieces of the page: cards in a list, the vote.
function make(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
}

// `item` is { row, name, label, score? }; `paint` is null where the row has no picture.
function card({ row, name, label, score }, paint, onPick) {
  const button = make('button', { type: 'button', title: name, onclick: () => onPick(row) });
  button.dataset.row = row;
  if (paint) {
    const canvas = make('canvas', { width: 128, height: 128 });
    canvas.setAttribute('aria-hidden', 'true');
    paint(canvas, row);
    button.append(canvas);
  }
  // The folder of a picture often is its class, which stands below.
  const short = label && name.startsWith(`${label}/`) ? name.slice(label.length + 1) : name;
  button.append(make('span', { className: 'name' }, short), make('span', { className: 'label' }, label));
  if (score !== undefined) button.append(scoreLine(score));
  return make('li', {}, button);
}

function scoreLine(score) {
  const bar = make('span', { className: 'score-bar', ariaHidden: 'true' });
  bar.style.setProperty('--share', Math.max(0, score));
  return make('span', { className: 'score' }, make('span', { className: 'sr' }, 'score '), score.toFixed(3), bar);
}

// Fills a list with cards. Focus stays on its row, or goes to `otherwise` where that row is no longer shown.
export function showCards(list, items, paintOf, onPick, otherwise) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.row : null;
  list.replaceChildren(...items.map((item) => card(item, paintOf(item.row), onPick)));
  if (focused === null) return;
  const again = list.querySelector(`[data-row="${focused}"]`) ?? otherwise(list);
  again?.focus({ preventScroll: true });
}

// The class that the neighbours speak for, and the next two.
export function showVote(box, shares, classes) {
  box.hidden = !shares;
  if (!shares) return;
  const best = Array.from(shares, (share, index) => ({ share, index })).filter(({ share }) => share > 0.005).sort((a, b) => b.share - a.share).slice(0, 3);
  const percent = (share) => `${(100 * share).toFixed(0)} %`;
  const line = ({ share, index }) => {
    const bar = make('span', { className: 'vote-bar', ariaHidden: 'true' });
    bar.style.setProperty('--share', share);
    return make('li', {}, make('span', { className: 'name' }, classes[index]), bar, make('span', { className: 'number' }, percent(share)));
  };
  box.replaceChildren(
    make('p', { className: 'verdict' }, 'Looks like ', make('strong', {}, classes[best[0].index]), `, with ${percent(best[0].share)} of its neighbours’ vote`),
    make('ul', { ariaLabel: 'Share of the vote' }, ...best.map(line)),
  );
}

export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
