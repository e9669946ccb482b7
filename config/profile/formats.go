package profile

// formats are those that are known. The contents of a profile fit one of them.
func formats() []format {
	return append([]format{appleFormat(), sswanFormat(), swanctlFormat(), nmFormat(), oncFormat(), pbkFormat(), awsFormat()}, ipsecFormats()...)
}
