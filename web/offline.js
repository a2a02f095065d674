// Keeps page and bundle for visits without a network, once the first answer stands.
import { ask } from './client.js';
import { counted } from './state.js';

const NEEDS = 'This page needs the network each time: browsers keep pages on https and on this machine only.';
const LOST = 'This page could not be kept for visits without a network';

// What to say of it.
export async function keepOffline(files) {
  const { isKept, all } = await ask('rest');
  if (!navigator.serviceWorker) return NEEDS;
  await navigator.serviceWorker.register('sw.js');
  const { active } = await navigator.serviceWorker.ready, channel = new MessageChannel();
  const answered = new Promise((resolve) => { channel.port1.onmessage = ({ data }) => resolve(data.missing); });
  active.postMessage({ keep: files }, [channel.port2]);
  const missing = await answered;
  if (missing.length) return `${LOST}: ${counted(missing.length, 'file')} missing`;
  if (!isKept) return `${LOST}: the browser’s storage is full.`;
  return `Ready: this page now works without a network${all ? '' : ', with the thumbnails that were seen'}.`;
}

export const notKept = (error) => `${LOST}: ${error.message}`;
