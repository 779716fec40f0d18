# The machines are built, as far as they can be; booting them takes QEMU.
python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$testScriptPath"
echo "$machines" >"$out"
