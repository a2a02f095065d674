// The camera in a dialog: gives one picture as a file, and is always switched off.
const REASONS = {
  NotFoundError: 'this machine has no camera, or none is plugged in: choose a picture instead',
  NotAllowedError: 'the browser does not lend it: allow the camera for this page, or choose a picture instead',
  NotReadableError: 'another program uses it: close that, or choose a picture instead',
};

const unopened = (reason) => new Error(`the camera could not be opened: ${reason}`);

export function createCamera({ dialog, video, shoot, cancel }, onPicture, onError) {
  let stream;
  function off() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = video.srcObject = null;
    if (dialog.open) dialog.close();
  }
  async function picture() {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext('2d').drawImage(video, 0, 0);
    off();
    await onPicture(new File([await canvas.convertToBlob()], 'camera picture', { type: 'image/png' }));
  }
  dialog.addEventListener('close', off);
  cancel.onclick = off;
  shoot.onclick = () => picture().catch(onError);
  return async () => {
    if (!navigator.mediaDevices) throw unopened('browsers lend it to pages on https or on this machine only');
    shoot.disabled = true;
    dialog.showModal();
    try {
      // The one that looks away from the visitor, where there are two.
      const opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: { ideal: 'environment' } } });
      // Closed while the browser was still asking.
      if (!dialog.open) return opened.getTracks().forEach((track) => track.stop());
      stream = video.srcObject = opened;
      await video.play();
      shoot.disabled = false;
      shoot.focus();
    } catch (error) {
      if (!dialog.open) return;
      off();
      throw unopened(REASONS[error.name] ?? `${error.message}: choose a picture instead`);
    }
  };
}
