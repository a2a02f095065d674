// All pictures on a shelf: a sample at random, page by page, those of a name, or a set; all at once where they are few.
// A sample of a large bank takes so many of a sheet of thumbnails, so that a shelf needs few sheets.
const PAGE = 24, TOGETHER = 3;

// `rowAt` is the row at a place, `matching(text)` are the rows that have a text in their name or class, `perSheet()` is
// how many thumbnails lie together.
export function createShelf({ list, where, find, back, on, random }, { rowAt, matching, show, perSheet }) {
  let found = null, set = null, sample = null, total = 0, first = 0, version = '';
  const count = () => found?.length ?? total;
  function turn(to) {
    sample = null;
    first = Math.max(0, Math.min(to, count() - 1));
    render();
  }
  const lookUp = () => { set = null; found = find.value.trim() ? matching(find.value.trim()) : null; };
  function draw() {
    leave();
    if (count() <= PAGE) return turn(0);
    const drawn = new Set();
    const sheet = perSheet(), random = (most) => Math.floor(Math.random() * most);
    const together = count() > PAGE * sheet ? Math.min(TOGETHER, sheet) : 1;
    while (drawn.size < PAGE) {
      const begin = random(Math.ceil(count() / sheet)) * sheet, length = Math.min(sheet, count() - begin);
      if (together === 1) drawn.add(random(count()));
      else for (let i = 0; i < together && drawn.size < PAGE; i++) drawn.add(begin + random(length));
    }
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
  function leave() { if (set) lookUp(); }
  function words() {
    if (set) return set.words;
    const last = Math.min(first + PAGE, count());
    if (!count()) return 'Nothing of that name';
    return sample ? `${sample.length} of ${count()}, at random` : `${first + 1} to ${last} of ${count()}`;
  }
  find.oninput = () => { lookUp(); turn(0); };
  back.onclick = () => turn(first - PAGE);
  on.onclick = () => turn(sample ? 0 : first + PAGE);
  random.onclick = draw;
  return {
    // Rows in place of all, and what to say of them; none of them: all again.
    set(rows, words) {
      const isNew = !set;
      set = rows && { words };
      found = rows;
      if (!rows) lookUp();
      turn(isNew || !rows ? 0 : first);
    },
    // `newVersion` changes whenever a picture comes or goes.
    fill(newTotal, newVersion) {
      if (newVersion === version) return;
      const needsSample = !list.children.length || (sample && newTotal < total);
      [total, version] = [newTotal, newVersion];
      // A set stays what it was when it was looked for.
      if (set) return;
      lookUp();
      // A sample stays what it is while pictures come.
      if (needsSample) draw(); else if (sample) where.textContent = words(); else turn(first);
    },
  };
}
