#!/bin/sh
# usage: probe.sh overlay | links | filter, in mount and network namespaces of its own: whether the kernel can do it.
set -eu
case $1 in
overlay)
	mount -t tmpfs tmpfs /run
	mkdir /run/lower /run/upper /run/work /run/root
	mount -t overlay -o lowerdir=/run/lower,upperdir=/run/upper,workdir=/run/work,redirect_dir=on overlay /run/root
	;;
links)
	ip link add near type veth peer name far
	;;
filter)
	nft add table inet probe
	nft add chain inet probe through '{ type filter hook forward priority filter; }'
	nft add rule inet probe through ct state established accept
	nft add table ip nat
	nft add chain ip nat source '{ type nat hook postrouting priority srcnat; }'
	nft add rule ip nat source masquerade random
	;;
esac
