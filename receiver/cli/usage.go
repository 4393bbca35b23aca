package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tillhook/receiver/operator"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is an error in the command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// helpWidth is the largest width of a help text in columns.
const helpWidth = 80

// setUp gives a command and its subcommands the same form of help texts and error messages.
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

// wrap breaks each paragraph of a text into lines of the help width. Indented lines stay unchanged.
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

// flagError describes in words what is wrong with the value of a flag.
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
		return fmt.Errorf("--%s %q is not a whole number from 0 up", flag.Name, value.GetValue())
	case kind == "bool":
		return fmt.Errorf("--%s %q is neither true nor false", flag.Name, value.GetValue())
	case kind == "stringToString":
		return fmt.Errorf("--%s %q is not of the form key=value", flag.Name, value.GetValue())
	}
	return err
}

// unknownCommand returns the error for an unknown command, with commands of similar names.
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

// noArguments returns a usage error if there are arguments.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if c.HasAvailableSubCommands() {
		return unknownCommand(c, args[0])
	}
	return usagef("%s takes no arguments, but got %q", c.CommandPath(), args[0])
}

func oneArgument(c *cobra.Command, args []string) error { return one(c, args, "id") }

func oneFile(c *cobra.Command, args []string) error { return one(c, args, "file name") }

func one(c *cobra.Command, args []string, what string) error {
	switch {
	case len(args) == 0 || len(args) == 1 && args[0] == "":
		return usagef("%s needs the %s as its argument", c.CommandPath(), what)
	case len(args) > 1:
		return usagef("%s takes one %s, but got %d: %s", c.CommandPath(), what, len(args), strings.Join(args, " "))
	}
	return nil
}

// oneOf returns a usage error if the value of a flag is not one of words. An empty value is valid.
func oneOf[T ~string](flag, value string, words []T) error {
	if value == "" || slices.Contains(words, T(value)) {
		return nil
	}
	return usagef("--%s %q is not %s", flag, value, operator.OrList(words))
}

// noFiles keeps shell completion from offering file names.
func noFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// complete adds shell completion for the words of a flag.
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
