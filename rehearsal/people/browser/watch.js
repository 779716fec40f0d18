// Tells the rehearsal what the page's policy refuses.
document.addEventListener("securitypolicyviolation", (event) => refused(`${event.effectiveDirective} ${event.blockedURI}`));
