// The strength of an overlay is a matter of the page alone. Once it is chosen it holds for every image: Gradio draws the
// next one into the same elements, which resets the pictures and not the slider.
let strength;

function show(looked) {
  const slider = looked.querySelector('.strength input');
  if (!slider) return;
  if (slider.value !== strength) slider.value = strength;
  if (slider.getAttribute('aria-valuetext') !== `${strength} %`) slider.setAttribute('aria-valuetext', `${strength} %`);
  const share = String(strength / 100);
  if (looked.style.getPropertyValue('--strength') !== share) looked.style.setProperty('--strength', share);
}

function showAll() {
  if (strength !== undefined) document.querySelectorAll('.looked').forEach(show);
}

document.addEventListener('input', event => {
  const slider = event.target.closest('.strength input');
  if (!slider) return;
  strength = slider.value;
  showAll();
});
new MutationObserver(showAll).observe(document.documentElement, {
  subtree: true, childList: true, attributes: true, attributeFilter: ['style', 'value', 'aria-valuetext'],
});
