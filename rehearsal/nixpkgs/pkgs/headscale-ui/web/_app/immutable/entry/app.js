// Nothing is in the pages themselves: where this does not run, they are blank, as the real ones are.
import { ask, keep, kept } from "../chunks/api.js";
import { element, fadeIn } from "../chunks/dom.js";

const TITLES = { users: "User View", devices: "Device View", groups: "Group View", settings: "Server Settings" };
const FAILED = "API test did not succeed.";

export function start(page, place) {
  if (page === "index") {
    history.replaceState(null, "", "/web/users.html");
    page = "users";
  }
  const links = Object.keys(TITLES).flatMap((name) => [element("a", { href: `/web/${name}.html`, textContent: name }), " "]);
  place.append(
    element("nav", {}, ...links),
    element("p", { textContent: "A stand-in: headscale-ui's release could not be fetched when this machine was set up." }),
    element("h1", { textContent: TITLES[page] }),
  );
  if (page === "users") list(place, "user", (answer) => answer.users.map((user) => `${user.id}: ${user.name}`));
  if (page === "devices") list(place, "node", (answer) => answer.nodes.map((node) => `${node.id}: ${node.givenName}`));
  if (page === "settings") settings(place);
  fadeIn(place);
}

async function list(place, path, names) {
  const items = await ask(path).then(names, () => [FAILED]);
  place.append(element("ul", {}, ...items.map((name) => element("li", { textContent: name }))));
}

function settings(place) {
  const field = element("input", { type: "password", placeholder: "******************", value: kept() });
  const save = element("button", { type: "button", textContent: "Save API Key" });
  const test = element("button", { type: "button", textContent: "Test Server Settings" });
  const tested = () =>
    ask("apikey").then(
      () => (save.textContent = "Edit API Key"),
      () => (save.textContent = "Save API Key"),
    );
  field.addEventListener("input", () => keep(field.value));
  for (const button of [save, test]) button.addEventListener("click", tested);
  place.append(element("form", {}, field, save, test));
  tested();
}
