package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

func newManCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "man FOLDER",
		Short: "Write manual pages of all commands",
		Long: `Write manual pages of all commands into a folder, which is made if it is missing;
pages that are there are replaced.

Pages of one version are the same bytes whenever they are written. Their date is
that of SOURCE_DATE_EPOCH (seconds since 1970) if it is set, otherwise that of the
commit which the program was built from, where the build knows it; otherwise they
have none.`,
		Example: `  forgepipe man ~/.local/share/man/man1
  man -l man/forgepipe-run.1`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("see forgepipe man --help", "man wants one folder, and got %d", len(args))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			a.begun = true
			return runMan(a, args[0])
		},
	}
}

func runMan(a *app, dir string) error {
	date, err := manDate(os.Getenv("SOURCE_DATE_EPOCH"), commitTime())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("making the folder for manual pages: %w", err)
	}
	var files []string
	err = eachCommand(newRootCommand(a), func(cmd *cobra.Command) error { // a tree of its own, whose texts change
		page, err := manPage(cmd, "forgepipe "+versionOf(a.version), date)
		if err != nil {
			return fmt.Errorf("making the manual page of %s: %w", cmd.CommandPath(), err)
		}
		file := filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1")
		if err := os.WriteFile(file, page, 0o666); err != nil {
			return fmt.Errorf("writing a manual page: %w", err)
		}
		files = append(files, file)
		return nil
	})
	if err != nil {
		return err
	}
	a.result.set(func(e *envelope) { e.Files = files })
	a.screen.Printf("%d manual pages written into %s", len(files), dir)
	return nil
}

// eachCommand calls f for a command and those below that can be run.
func eachCommand(cmd *cobra.Command, f func(*cobra.Command) error) error {
	if err := f(cmd); err != nil {
		return err
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			if err := eachCommand(sub, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// manPage is a command's page. What the command says of itself is plain text, and becomes
// Markdown before that becomes a page. The zero date is none.
func manPage(cmd *cobra.Command, version string, date time.Time) ([]byte, error) {
	cmd.DisableAutoGenTag = true // its date would be a second one
	cmd.Short, cmd.Long = markdown(cmd.Short), markdown(cmd.Long)
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) { f.Usage = markdown(f.Usage) })
	var page bytes.Buffer
	err := doc.GenMan(cmd, &doc.GenManHeader{Section: "1", Date: &date, Source: version, Manual: "forgepipe"}, &page)
	if err != nil || !date.IsZero() {
		return page.Bytes(), err
	}
	return bytes.Replace(page.Bytes(), []byte(date.Format(` "Jan 2006" `)), []byte(` "" `), 1), nil
}

// markdown is plain text in Markdown. What is between backquotes in a flag's text, its
// value, means there the same.
func markdown(text string) string {
	var b strings.Builder
	code := false
	for _, r := range text {
		if r == '`' {
			code = !code
		}
		if !code && strings.ContainsRune(`\*_{}[]<>#|~`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// manDate is the date of manual pages: epoch if it is given, otherwise the commit's.
func manDate(epoch string, commit time.Time) (time.Time, error) {
	if epoch == "" {
		return commit, nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, usagef("it is a number of seconds since 1970, such as 1767225600", "SOURCE_DATE_EPOCH is %q", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// commitTime is when that was committed which the program was built from; zero where
// the build does not know it, or has changes that nobody committed.
func commitTime() (t time.Time) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return t
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.time":
			t, _ = time.Parse(time.RFC3339, s.Value) // what is no time is none
		case s.Key == "vcs.modified" && s.Value == "true":
			return time.Time{}
		}
	}
	return t.UTC()
}
