// Clusters: pictures that lie together, found without names or classes.
import { ask } from './client.js';
import { counted } from './state.js';

// The button that shows the most typical picture of each cluster on the shelf in place of all pictures; `choice` then
// has all pictures of one.
export function createClusters({ button, choice }, shelf) {
  let run = null, found = [], clusterOf = new Map();
  async function look() {
    const mine = run = {};
    button.setAttribute('aria-pressed', true);
    shelf.set([], 'Looking for clusters');
    const clusters = await ask('clusters').catch((error) => { leave(); shelf.set(null); throw error; });
    if (run !== mine) return;
    found = clusters;
    const options = found.map((rows, i) => new Option(`${i + 1}: ${counted(rows.length, 'picture')}`, i));
    choice.replaceChildren(new Option('the most typical picture of each', ''), ...options);
    choice.parentElement.hidden = false;
    choose();
  }
  function choose() {
    const one = found[choice.value], typical = found.map(([first]) => first);
    clusterOf = new Map(one ? [] : typical.map((row, i) => [row, i]));
    if (one) shelf.set(one, `Cluster ${+choice.value + 1} of ${found.length}, the most typical pictures first`);
    else shelf.set(typical, `The most typical picture of each of ${counted(found.length, 'cluster')}`);
  }
  // Forgets the clusters; the shelf then shows what it is told to.
  function leave() {
    run = null;
    clusterOf = new Map();
    button.setAttribute('aria-pressed', false);
    choice.parentElement.hidden = true;
  }
  choice.onchange = choose;
  return {
    leave,
    look,
    isOn: () => Boolean(run),
    // What a card of the most typical picture says.
    labelOf(row) {
      const at = clusterOf.get(row);
      return at === undefined ? undefined : `cluster ${at + 1} (${found[at].length.toLocaleString('en')})`;
    },
  };
}
