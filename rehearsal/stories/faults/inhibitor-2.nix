{
  system.switch.inhibitors.story = "2";
}
