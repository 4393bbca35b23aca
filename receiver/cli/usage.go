package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tillhook/receiver/operator"
)

// usageError is a command line that is wrong.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// helpWidth is how many columns a help text takes at most.
const helpWidth = 80

// setUp gives a command and those below it help texts and error messages of one form.
func setUp(root *cobra.Command) {
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usageError{flagError(c, err)} })
	cobra.AddTemplateFunc("wrap", wrap)
	cobra.AddTemplateFunc("flags", func(set *pflag.FlagSet) string {
		return strings.TrimRight(set.FlagUsagesWrapped(helpWidth), " \n")
	})
	for _, name := range []string{"LocalFlags", "InheritedFlags"} {
		root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), "{{."+name+".FlagUsages | trimTrailingWhitespaces}}", "{{flags ."+name+"}}"))
	}
	root.SetHelpTemplate("{{with (or .Long .Short)}}{{wrap .}}\n\n{{end}}{{.UsageString}}")
}

// wrap breaks the lines of a text anew, each paragraph by itself. Lines that are indented stay as
// they are.
func wrap(text string) string {
	var out []string
	line := ""
	flush := func() {
		if line != "" {
			out = append(out, line)
		}
		line = ""
	}
	for paragraph := range strings.Lines(strings.TrimRight(text, "\n")) {
		paragraph = strings.TrimRight(paragraph, "\n")
		if paragraph == "" || strings.HasPrefix(paragraph, " ") {
			flush()
			out = append(out, paragraph)
			continue
		}
		for _, word := range strings.Fields(paragraph) {
			if line != "" && len(line)+1+len(word) > helpWidth {
				flush()
			}
			line = strings.TrimPrefix(line+" "+word, " ")
		}
	}
	flush()
	return strings.Join(out, "\n")
}

// flagError says what is wrong with the value of a flag, in words.
func flagError(c *cobra.Command, err error) error {
	var value *pflag.InvalidValueError
	if !errors.As(err, &value) {
		return err
	}
	flag := value.GetFlag()
	switch kind := flag.Value.Type(); {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("--%s %q is too large or too small", flag.Name, value.GetValue())
	case strings.HasPrefix(kind, "int"):
		return fmt.Errorf("--%s %q is not a whole number", flag.Name, value.GetValue())
	case strings.HasPrefix(kind, "uint"):
		return fmt.Errorf("--%s %q is not a whole number from 0 on", flag.Name, value.GetValue())
	case kind == "bool":
		return fmt.Errorf("--%s %q is neither true nor false", flag.Name, value.GetValue())
	case kind == "stringToString":
		return fmt.Errorf("--%s %q is not of the form key=value", flag.Name, value.GetValue())
	}
	return err
}

// unknownCommand names a command that may have been meant.
func unknownCommand(c *cobra.Command, name string) error {
	near := ""
	if c.SuggestionsMinimumDistance <= 0 {
		c.SuggestionsMinimumDistance = 2
	}
	if list := c.SuggestionsFor(name); len(list) > 0 {
		near = "; did you mean " + operator.OrList(list) + "?"
	}
	return usagef("unknown command %q%s", c.CommandPath()+" "+name, near)
}

// noArguments and oneArgument refuse anything else as a matter of usage.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if c.HasAvailableSubCommands() {
		return unknownCommand(c, args[0])
	}
	return usagef("%s takes no arguments, and got %q", c.CommandPath(), args[0])
}

func oneArgument(c *cobra.Command, args []string) error { return one(c, args, "id") }

func oneFile(c *cobra.Command, args []string) error { return one(c, args, "file name") }

func one(c *cobra.Command, args []string, what string) error {
	switch {
	case len(args) == 0 || len(args) == 1 && args[0] == "":
		return usagef("%s needs the %s it is about", c.CommandPath(), what)
	case len(args) > 1:
		return usagef("%s takes one %s, and got %d: %s", c.CommandPath(), what, len(args), strings.Join(args, " "))
	}
	return nil
}

// oneOf refuses a value of a flag that is none of its words.
func oneOf[T ~string](flag, value string, words []T) error {
	if value == "" || slices.Contains(words, T(value)) {
		return nil
	}
	return usagef("--%s %q is not %s", flag, value, operator.OrList(words))
}

// noFiles keeps the shell from offering names of files where none is meant.
func noFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// complete offers the words of a flag to the shell.
func complete[T ~string](c *cobra.Command, flag string, words []T) {
	var list []string
	for _, w := range words {
		list = append(list, string(w))
	}
	completeBy(c, flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
}

func completeBy(c *cobra.Command, flag string, offer cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, offer); err != nil {
		panic(err) // there is no such flag
	}
}
