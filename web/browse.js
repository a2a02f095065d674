// All pictures on a shelf: a sample at random, page by page, or those of a name; all at once where they are few.
const PAGE = 24;

// `rowAt` is the row at a place, `matching(text)` are the rows that have a text in their name or class.
export function createShelf({ list, where, find, back, on, random }, { rowAt, matching, show }) {
  let found = null, sample = null, total = 0, first = 0, version = '';
  const count = () => found?.length ?? total;
  function turn(to) {
    sample = null;
    first = Math.max(0, Math.min(to, count() - 1));
    render();
  }
  const lookUp = () => { found = find.value.trim() ? matching(find.value.trim()) : null; };
  function draw() {
    if (count() <= PAGE) return turn(0);
    const drawn = new Set();
    while (drawn.size < PAGE) drawn.add(Math.floor(Math.random() * count()));
    sample = [...drawn].sort((a, b) => a - b);
    render();
  }
  function render() {
    const last = Math.min(first + PAGE, count());
    const places = sample ?? Array.from({ length: last - first }, (_, i) => first + i);
    where.textContent = words();
    back.disabled = Boolean(sample) || first === 0;
    on.disabled = !sample && last >= count();
    random.disabled = count() <= PAGE;
    show(list, places.map((place) => (found ? found[place] : rowAt(place))));
  }
  function words() {
    const last = Math.min(first + PAGE, count());
    if (!count()) return 'Nothing of that name';
    return sample ? `${sample.length} of ${count()}, at random` : `${first + 1} to ${last} of ${count()}`;
  }
  find.oninput = () => { lookUp(); turn(0); };
  back.onclick = () => turn(first - PAGE);
  on.onclick = () => turn(sample ? 0 : first + PAGE);
  random.onclick = draw;
  return {
    // `newVersion` changes whenever a picture comes or goes.
    fill(newTotal, newVersion) {
      if (newVersion === version) return;
      const needsSample = !list.children.length || (sample && newTotal < total);
      [total, version] = [newTotal, newVersion];
      lookUp();
      // A sample stays what it is while pictures come.
      if (needsSample) draw(); else if (sample) where.textContent = words(); else turn(first);
    },
  };
}
