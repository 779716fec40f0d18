// The API calls of the real UI's first pages: same origin, the key as a bearer token.
const paths = { index: "user", users: "user", devices: "node", settings: "apikey", groups: "user" };

export function start(page) {
  document.querySelector("#key").addEventListener("submit", async (event) => {
    event.preventDefault();
    const key = new FormData(event.target).get("key");
    const answer = await fetch(`/api/v1/${paths[page]}`, {
      headers: { Accept: "application/json", Authorization: `Bearer ${key}` },
    });
    document.querySelector("#answer").textContent = `${answer.status} ${await answer.text()}`;
  });
}
