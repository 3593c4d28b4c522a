// The strength of an overlay is a matter of the page alone.
document.addEventListener('input', event => {
  const slider = event.target.closest('.strength input');
  if (!slider) return;
  slider.closest('.looked').style.setProperty('--strength', slider.value / 100);
  slider.setAttribute('aria-valuetext', `${slider.value} %`);
});
