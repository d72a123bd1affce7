package main

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// lifetimeFlag adds a flag for a duration in a range.
func lifetimeFlag(fs *flag.FlagSet, to *time.Duration, name string, least, most time.Duration, what, usual string) {
	fs.Func(name, "`DURATION` "+what+", "+days(least)+" to "+days(most)+" (default "+usual+")", func(text string) error {
		d, err := parseDuration(text)
		if err != nil {
			return err
		}
		if d < least || d > most {
			return fmt.Errorf("it must be %s to %s", days(least), days(most))
		}
		*to = d
		return nil
	})
}

// parseDuration reads a duration as Go has it, or a number of days, such as 30d.
func parseDuration(text string) (time.Duration, error) {
	if number, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(number, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	} else if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	return 0, errors.New("it is not a duration; write it like 45m, 8h or 30d")
}

// days writes a duration of whole minutes as parseDuration reads it.
func days(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0 && d > 24*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}
