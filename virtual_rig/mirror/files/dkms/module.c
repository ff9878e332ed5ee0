/* One of the modules of the mirror's driver: it builds as NVIDIA's do, and does nothing. */
#include <linux/init.h>
#include <linux/module.h>

#ifdef WITH_DISPLAY
static bool modeset;
module_param(modeset, bool, 0400);
static bool fbdev = true;
module_param(fbdev, bool, 0400);
#endif

static int __init nothing_init(void)
{
    return 0;
}

static void __exit nothing_exit(void)
{
}

module_init(nothing_init);
module_exit(nothing_exit);
MODULE_DESCRIPTION("Stand-in of the virtual rig");
MODULE_VERSION(DRIVER_VERSION);
MODULE_LICENSE(DRIVER_LICENSE);
