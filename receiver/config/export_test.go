package config

var ParseEnvFile = parseEnvFile
