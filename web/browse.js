// The bank on a shelf: pages of rows, at random or by name.
export function createShelf({ list, where, find, back, on, random }, onChange) {
  const PAGE = 24;
  let rows = null, total = 0, first = 0, textOf = () => '';
  const count = () => rows?.length ?? total;
  function turn(to) {
    first = Math.max(0, Math.min(to, count() - 1));
    render();
  }
  function search() {
    const wanted = find.value.trim().toLowerCase();
    rows = wanted ? Array.from({ length: total }, (_, row) => row).filter((row) => textOf(row).toLowerCase().includes(wanted)) : null;
    turn(0);
  }
  function render() {
    const last = Math.min(first + PAGE, count());
    where.textContent = count() ? `${first + 1} to ${last} of ${count()}` : 'Nothing of that name';
    back.disabled = first === 0;
    on.disabled = last >= count();
    random.disabled = count() <= PAGE;
    onChange(list, Array.from({ length: last - first }, (_, i) => rows ? rows[first + i] : first + i));
  }
  find.oninput = search;
  back.onclick = () => turn(first - PAGE);
  on.onclick = () => turn(first + PAGE);
  random.onclick = () => turn(Math.floor(Math.random() * Math.max(1, count() - PAGE)));
  return {
    show(newTotal, newTextOf) {
      textOf = newTextOf;
      if (newTotal !== total) { total = newTotal; turn(first); }
    },
    turnTo(row) { find.value = ''; rows = null; turn(row - row % PAGE); },
  };
}
