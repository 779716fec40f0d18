{
  system.switch.inhibitors.story = "1";
}
