#!/bin/sh
# The first process of the quick disk: a network, the seed's keys, an SSH server, and nothing else.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# A translator keeps what it translated by address.
echo 0 > /proc/sys/kernel/randomize_va_space
mount -o remount,rw /
mkdir -p /dev/pts /run/sshd /run/seed
mount -t devpts devpts /dev/pts
ip link set lo up
for card in /sys/class/net/e*; do
    card=${card##*/}
    ip link set "$card" up
    ip address add 10.0.2.15/24 dev "$card"
done
ip route add default via 10.0.2.2

mount -t vfat -o ro /dev/vdb /run/seed
umask 077
mkdir -p /root/.ssh
# The seed is JSON, a value a line.
sed -n 's/^ *"\(ssh-ed25519 [^"]*\)",*$/\1/p' /run/seed/user-data > /root/.ssh/authorized_keys
printf '%b' "$(sed -n 's/^ *"ed25519_private": "\(.*\)",*$/\1/p' /run/seed/user-data)" > /etc/ssh/ssh_host_ed25519_key
umount /run/seed
umask 022

/usr/sbin/sshd -D -e -o UsePAM=no &
while :; do
    wait
    sleep 1
done
