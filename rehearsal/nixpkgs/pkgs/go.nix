# Nothing is compiled: the program was built by the rehearsal's set-up.
{ build }:
{
  pname,
  version,
  src,
  vendorHash,
  subPackages ? [ ],
  ldflags ? [ ],
  doCheck ? true,
  postPatch ? "",
  meta ? { },
  passthru ? { },
}:
build {
  inherit pname version meta;
  asked = version;
  builder = ./builders/go.sh;
}
// passthru
