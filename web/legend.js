// The classes with their colours on the map. A click shows a class alone; further clicks add classes and take them
// away.
import { make } from './view.js';
import { colourOf } from './map.js';

const MOST = 40;

export function createLegend(list, onChange) {
  let chosen = [];
  function toggle(index) {
    onChange(chosen.includes(index) ? chosen.filter((one) => one !== index) : [...chosen, index]);
  }
  function entry(name, index, count) {
    const swatch = make('span', { className: 'swatch', ariaHidden: 'true' });
    swatch.style.setProperty('--colour', colourOf(index, count, 'var(--point)'));
    const button = make('button', { type: 'button', className: 'chip', onclick: () => toggle(index) }, swatch, name);
    button.dataset.index = index;
    return make('li', {}, button);
  }
  return {
    fill(classes) {
      list.replaceChildren(...classes.slice(0, MOST).map((name, index) => entry(name, index, classes.length)));
      const rest = classes.length - MOST;
      if (rest > 0) list.append(make('li', { className: 'muted small' }, `and ${rest} more`));
      const all = { type: 'button', className: 'chip all', onclick: () => onChange([]) };
      list.append(make('li', {}, make('button', all, 'All classes')));
    },
    show(indices) {
      chosen = indices;
      for (const button of list.querySelectorAll('[data-index]')) {
        button.ariaPressed = String(chosen.includes(Number(button.dataset.index)));
      }
      const all = list.querySelector('.all');
      if (all) all.hidden = !chosen.length;
    },
  };
}
