# Nothing is compiled: the program was built by the rehearsal's set-up; what the package does after that is done.
{ build }:
{
  pname,
  version,
  src,
  vendorHash,
  subPackages ? [ ],
  nativeBuildInputs ? [ ],
  ldflags ? [ ],
  doCheck ? true,
  postPatch ? "",
  postInstall ? "",
  meta ? { },
  passthru ? { },
}:
build {
  inherit
    pname
    version
    postInstall
    meta
    ;
  asked = version;
  path = nativeBuildInputs;
  passAsFile = [ "postInstall" ];
  builder = ./builders/go.sh;
}
// passthru
