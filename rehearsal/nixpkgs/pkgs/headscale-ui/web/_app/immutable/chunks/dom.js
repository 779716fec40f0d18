export function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// As Svelte's transitions do: a policy that refuses the empty style leaves it without a sheet, and this throws.
export function fadeIn(shown) {
  const style = element("style", { textContent: "/* empty */" });
  document.head.append(style);
  style.sheet.insertRule("@keyframes fade-in { from { opacity: 0; } }");
  shown.style.animation = "fade-in 200ms";
}
