// The camera: opens it in a dialog, gives one picture as a file, and always switches it off again.
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
    if (!navigator.mediaDevices) throw new Error('the camera could not be opened: browsers lend it to pages on https or on this machine only');
    dialog.showModal();
    try {
      const opened = await navigator.mediaDevices.getUserMedia({ video: true });
      // Closed while the browser was still asking.
      if (!dialog.open) return opened.getTracks().forEach((track) => track.stop());
      stream = video.srcObject = opened;
      await video.play();
    } catch (error) {
      off();
      throw new Error(`the camera could not be opened: ${error.message}: allow it in the browser, or choose a picture instead`);
    }
  };
}
