// Keys: arrows walk from card to card, / goes to Find.
const isTyping = ({ target }) => target.matches?.('input:not([type=range]), select, textarea');

function step(cards, at, key) {
  const top = cards[at].offsetTop, columns = cards.filter((card) => card.offsetTop === cards[0].offsetTop).length;
  const last = cards.length - 1;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: last - at };
  const to = at + (steps[key] ?? 0);
  // Down from the last full line goes to the last card of a line that is not full.
  return key === 'ArrowDown' && to > last && cards[last].offsetTop > top ? last : to;
}

export function walkCards(list) {
  list.addEventListener('keydown', (event) => {
    const { key, target } = event, cards = [...list.children], at = cards.indexOf(target.closest('li'));
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey || !/^(Arrow|Home$|End$)/.test(key)) return;
    const to = cards[step(cards, at, key)];
    if (!to) return;
    event.preventDefault();
    (to.querySelector(target.classList.contains('look') ? '.look' : '.search') ?? to.querySelector('button')).focus();
  });
}

export function slashFocuses(field) {
  document.addEventListener('keydown', (event) => {
    const isOther = event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey;
    if (isOther || isTyping(event) || document.querySelector('dialog[open]')) return;
    event.preventDefault();
    field.scrollIntoView({ block: 'center' });
    field.focus();
  });
}
