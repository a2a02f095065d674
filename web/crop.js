// Cuts a part out of a picture: drag a box over it, or move the box with the keys.
const LEAST = 8, STEP = 0.02, SMALLEST = 480, LARGEST = 1024;

export function createCrop({ dialog, canvas, use, cancel }, onPart, onError) {
  const context = canvas.getContext('2d');
  let bitmap, name = '', box = null, from = null;

  async function open(blob, of) {
    bitmap = await createImageBitmap(blob);
    name = of;
    // Small pictures are shown larger, or a hand could hardly draw on them.
    const side = Math.max(bitmap.width, bitmap.height), factor = Math.min(LARGEST, Math.max(SMALLEST, side)) / side;
    canvas.width = Math.max(1, Math.round(bitmap.width * factor));
    canvas.height = Math.max(1, Math.round(bitmap.height * factor));
    box = { x: canvas.width / 4, y: canvas.height / 4, width: canvas.width / 2, height: canvas.height / 2 };
    draw();
    dialog.showModal();
    canvas.focus();
  }
  function draw() {
    const { x, y, width, height } = box;
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    context.fillStyle = 'rgb(0 0 0 / .55)';
    context.beginPath();
    context.rect(0, 0, canvas.width, canvas.height);
    context.rect(x, y, width, height);
    context.fill('evenodd');
    Object.assign(context, { strokeStyle: '#fff', lineWidth: Math.max(2, canvas.width / 300) });
    context.strokeRect(x, y, width, height);
    use.disabled = width < LEAST || height < LEAST;
  }
  const inside = (value, most) => Math.min(most, Math.max(0, value));
  // The canvas is shown smaller than it is.
  function at({ offsetX, offsetY }) {
    const { width, height, clientWidth, clientHeight } = canvas;
    return { x: inside(offsetX / clientWidth * width, width), y: inside(offsetY / clientHeight * height, height) };
  }
  canvas.onpointerdown = (event) => {
    from = at(event);
    try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer made by a script cannot be captured */ }
  };
  canvas.onpointermove = (event) => {
    if (!from) return;
    const to = at(event), x = Math.min(from.x, to.x), y = Math.min(from.y, to.y);
    box = { x, y, width: Math.abs(to.x - from.x), height: Math.abs(to.y - from.y) };
    draw();
  };
  canvas.onpointerup = canvas.onpointercancel = () => { from = null; };
  canvas.onkeydown = (event) => {
    const step = STEP * Math.max(canvas.width, canvas.height);
    const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (!by) return;
    event.preventDefault();
    if (event.shiftKey) resize(...by); else move(...by);
    draw();
  };
  function move(x, y) {
    box.x = inside(box.x + x, canvas.width - box.width);
    box.y = inside(box.y + y, canvas.height - box.height);
  }
  function resize(x, y) {
    box.width = Math.max(LEAST, Math.min(canvas.width - box.x, box.width + x));
    box.height = Math.max(LEAST, Math.min(canvas.height - box.y, box.height + y));
  }
  // Cut from the picture as it came, not from what is shown of it.
  async function part() {
    const factor = bitmap.width / canvas.width, inFull = (value) => Math.round(value * factor);
    const [x, y, width, height] = [box.x, box.y, box.width, box.height].map(inFull);
    const cut = new OffscreenCanvas(Math.max(1, width), Math.max(1, height));
    cut.getContext('2d').drawImage(bitmap, -x, -y);
    dialog.close();
    await onPart(new File([await cut.convertToBlob()], `part of ${name}`, { type: 'image/png' }));
  }
  use.onclick = () => part().catch(onError);
  cancel.onclick = () => dialog.close();
  dialog.addEventListener('close', () => { from = null; });
  return { open };
}
