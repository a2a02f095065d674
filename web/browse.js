// The bank on a shelf: a sample at random, its rows page by page, or those of a name; all at once where they are few.
export function createShelf({ list, where, find, back, on, random }, show) {
  const PAGE = 24;
  let found = null, sample = null, total = 0, first = 0, textOf = () => '';
  const count = () => found?.length ?? total;
  function turn(to) {
    sample = null;
    first = Math.max(0, Math.min(to, count() - 1));
    render();
  }
  // The rows from `start` on that have what is looked for in their text.
  function matching(start) {
    const wanted = find.value.trim().toLowerCase();
    return Array.from({ length: total - start }, (_, i) => start + i).filter((row) => textOf(row).toLowerCase().includes(wanted));
  }
  function search() {
    found = find.value.trim() ? matching(0) : null;
    turn(0);
  }
  function draw() {
    if (count() <= PAGE) return turn(0);
    const drawn = new Set();
    while (drawn.size < PAGE) drawn.add(Math.floor(Math.random() * count()));
    sample = [...drawn].sort((a, b) => a - b);
    render();
  }
  function render() {
    const last = Math.min(first + PAGE, count()), places = sample ?? Array.from({ length: last - first }, (_, i) => first + i);
    where.textContent = !count() ? 'Nothing of that name' : sample ? `${sample.length} of ${count()}, at random` : `${first + 1} to ${last} of ${count()}`;
    back.disabled = Boolean(sample) || first === 0;
    on.disabled = !sample && last >= count();
    random.disabled = count() <= PAGE;
    show(list, places.map((place) => found ? found[place] : place));
  }
  find.oninput = search;
  back.onclick = () => turn(first - PAGE);
  on.onclick = () => turn(sample ? 0 : first + PAGE);
  random.onclick = draw;
  return {
    fill(newTotal, newTextOf) {
      textOf = newTextOf;
      if (newTotal === total) return;
      const before = total;
      total = newTotal;
      found?.push(...matching(before));
      if (sample || !list.children.length) draw(); else turn(first);
    },
    turnTo(row) {
      find.value = '';
      found = null;
      turn(row - row % PAGE);
    },
  };
}
