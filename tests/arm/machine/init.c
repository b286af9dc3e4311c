/* The first program of the machine: loads what the disk needs, mounts it and hands over to /machine/init.sh on it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static void load_modules(void) {
  char name[200], path[300];
  FILE *order = fopen("/modules/order", "r");
  if (!order) return perror("/modules/order");
  while (fgets(name, sizeof name, order)) {
    name[strcspn(name, "\n")] = 0;
    snprintf(path, sizeof path, "/modules/%s", name);
    int file = open(path, O_RDONLY);
    if (syscall(SYS_finit_module, file, "", 0)) perror(path);
    close(file);
  }
  fclose(order);
}

int main(void) {
  mount("dev", "/dev", "devtmpfs", 0, 0);
  load_modules();
  for (int tries = 0; tries < 300 && access("/dev/vda", F_OK); tries++) usleep(100000);
  if (mount("/dev/vda", "/newroot", "ext4", 0, 0)) perror("/dev/vda");
  if (chdir("/newroot") || mount(".", "/", 0, MS_MOVE, 0) || chroot(".") || chdir("/")) perror("/newroot");
  execl("/bin/sh", "sh", "/machine/init.sh", (char *)0);
  perror("/machine/init.sh");
  return 1;
}
