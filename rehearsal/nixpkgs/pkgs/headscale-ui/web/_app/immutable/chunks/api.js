// Same origin, the key as a bearer token, kept where the real interface keeps it.
const KEY = "headscaleAPIKey";

export const kept = () => localStorage.getItem(KEY) ?? "";
export const keep = (key) => localStorage.setItem(KEY, key);

export async function ask(path) {
  const headers = { Accept: "application/json", Authorization: `Bearer ${kept()}` };
  const answer = await fetch(`/api/v1/${path}`, { headers });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}
