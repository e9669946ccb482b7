package config

// ProfileSmall is the only word of Node.Profile.
const ProfileSmall = "small"
