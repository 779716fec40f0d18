// Leaves for another page and does not wait for it.
(url) => location.assign(url)
