// The large view of a picture, and of those before and after it in the list it was opened from.
import { itemOf, nameOf, state } from './state.js';

const MOST_ENLARGED = 3;

// `parts` are the dialog's elements by name; `paintOf(row)` paints a thumbnail; `actions` are pick, also and not.
export function createViewer(parts, paintOf, actions) {
  const { dialog, canvas, original, name, path, label, score } = parts;
  let list = null, rows = [], at = 0, address = '';

  function open(from, row) {
    list = from;
    rows = [...from.children].map((card) => Number(card.dataset.row));
    show(rows.indexOf(row));
    if (!dialog.open) dialog.showModal();
  }
  function show(to) {
    at = to;
    const row = rows[at], item = itemOf(row);
    name.textContent = item.name.split('/').pop();
    path.textContent = item.name;
    label.textContent = item.label;
    score.textContent = similarityOf(row);
    canvas.hidden = false;
    paintOf(row)?.(canvas, row);
    showOriginal(row, item.name);
    parts.back.disabled = at === 0;
    parts.on.disabled = at === rows.length - 1;
    parts.also.disabled = parts.not.disabled = !state.query || row === state.query.row;
    parts.copy.textContent = 'Copy path';
  }
  // Stands in the thumbnail's place once it has come.
  function showOriginal(row, words) {
    URL.revokeObjectURL(address);
    address = originalOf(row);
    original.hidden = true;
    original.alt = words;
    if (!address) return original.removeAttribute('src');
    original.src = address;
    const isThis = () => rows[at] === row && dialog.open !== false;
    original.onload = () => {
      if (!isThis()) return;
      // Small pictures fill the view too, up to where they are all blur.
      original.style.width = `${MOST_ENLARGED * original.naturalWidth}px`;
      original.hidden = false;
      canvas.hidden = true;
    };
    original.onerror = () => {};
  }
  const turn = (by) => { if (rows[at + by] !== undefined) show(at + by); };
  // Focus goes back to the card of the picture seen last.
  function closed() {
    showNothing();
    list?.querySelector(`[data-row="${rows[at]}"] button`)?.focus({ preventScroll: true });
  }
  function showNothing() { URL.revokeObjectURL(address); address = ''; original.removeAttribute('src'); }
  const leaving = (work) => () => { const row = rows[at]; dialog.close(); work(row); };

  dialog.addEventListener('close', closed);
  dialog.addEventListener('keydown', ({ key }) => turn({ ArrowLeft: -1, ArrowRight: 1 }[key]));
  dialog.onclick = ({ target }) => { if (target === dialog) dialog.close(); };
  parts.close.onclick = () => dialog.close();
  parts.back.onclick = () => turn(-1);
  parts.on.onclick = () => turn(1);
  parts.pick.onclick = leaving(actions.pick);
  parts.also.onclick = leaving(actions.also);
  parts.not.onclick = leaving(actions.not);
  parts.copy.onclick = async () => {
    const said = () => { parts.copy.textContent = 'Copied'; };
    await navigator.clipboard.writeText(nameOf(rows[at])).then(said, () => selectAll(path));
  };
  return { open };
}

function similarityOf(row) {
  if (row === state.query?.row) return 'this is the picture asked about';
  return state.result?.neighbours.find((one) => one.row === row)?.score.toFixed(3) ?? 'not among the similar pictures';
}

// Where the browser lends no clipboard, the visitor copies.
function selectAll(node) { getSelection().selectAllChildren(node); }

// The address of a picture in full, or nothing where there is none: the file that was brought, or what the server
// offers, of the rows that go by these names.
export function originalOf(row) {
  const { file } = state.added.get(row) ?? {};
  if (file) return URL.createObjectURL(file);
  if (!state.bundle.originals || state.added.has(row)) return '';
  return new URL(`original/${row}?${state.bundle.manifest.names.sha256}`, location.href).href;
}
