// Says that a script of the page is missing or broken: the scripts that would say so are modules, and do not start
// without all of theirs.
addEventListener('error', (event) => {
  const failed = event.target === window || event.target instanceof HTMLScriptElement;
  if (!failed || window.laState) return;
  const $ = (id) => document.getElementById(id);
  $('error-text').textContent = 'A script of this page is missing or broken: '
    + 'is the network there, and the export whole?';
  $('error').hidden = $('retry').hidden = false;
  $('dismiss').hidden = $('loading').hidden = $('main').hidden = true;
  $('retry').onclick = () => location.reload();
}, true);
