for (const swipe of document.querySelectorAll(".swipe")) {
  const range = swipe.querySelector("input");
  const move = () => swipe.querySelector(".over").style.setProperty("clip-path", `inset(0 0 0 ${range.value}%)`);
  range.addEventListener("input", move);
  swipe.hidden = false;
  move();
}
