package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// uptime says how long the host has been up and how busy it is.
func uptime() (string, error) {
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return "", err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	return uptimeLine(time.Now(), string(up), string(load)), nil
}

// uptimeLine puts the contents of /proc/uptime and /proc/loadavg as uptime(1) does.
func uptimeLine(now time.Time, up, load string) string {
	seconds, _ := strconv.ParseFloat(strings.Fields(up + " 0")[0], 64)
	minutes := int(seconds) / 60
	days, hours, minutes := minutes/(24*60), minutes/60%24, minutes%60
	since := fmt.Sprintf("%d min", minutes)
	if hours > 0 {
		since = fmt.Sprintf("%2d:%02d", hours, minutes)
	}
	switch {
	case days == 1:
		since = "1 day, " + since
	case days > 1:
		since = fmt.Sprintf("%d days, %s", days, since)
	}
	loads := strings.Fields(load)
	return fmt.Sprintf(" %s up %s,  0 users,  load average: %s", now.Format("15:04:05"), since, strings.Join(loads[:min(3, len(loads))], ", "))
}
