"""Both nodes on a recorded drive: ``ros2 launch mm_fusion replay.launch.py bag:=<path>``.

The launch ends when the bag does.
"""

from pathlib import Path

from launch import Event, EventHandler, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.events.lifecycle import StateTransition
from launch_ros.parameter_descriptions import ParameterValue

HERE = Path(__file__).resolve().parent
SHARE = HERE.parent

ARGUMENTS = [
    DeclareLaunchArgument("bag", description="the rosbag2 to play"),
    DeclareLaunchArgument("rate", default_value="1.0", description="speed of playback"),
    DeclareLaunchArgument("loop", default_value="false", description="play it again"),
    DeclareLaunchArgument(
        "wait_for",
        default_value="['any']",
        description="topics that must have a subscriber before the playback starts",
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(SHARE / "config" / "fusion.yaml"),
        description="parameter file of both nodes",
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="show it in RViz"),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of all nodes"),
]


def when_active(*names: str, then: Node) -> RegisterEventHandler:
    """Start a process once all these lifecycle nodes are active: what it plays is not missed."""
    waiting = set(names)

    def all_active(event: Event) -> bool:
        if not isinstance(event, StateTransition) or event.goal_state != "active" or not waiting:
            return False
        waiting.discard(event.action.node_name.rpartition("/")[2])
        return not waiting

    return RegisterEventHandler(EventHandler(matcher=all_active, entities=[then]))


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` runs."""
    player = Node(
        package="mm_fusion",
        executable="simulator_node",
        name="simulator_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {
                "bag": ParameterValue(LaunchConfiguration("bag"), value_type=str),
                "rate": ParameterValue(LaunchConfiguration("rate"), value_type=float),
                "loop": ParameterValue(LaunchConfiguration("loop"), value_type=bool),
                "wait_for": ParameterValue(LaunchConfiguration("wait_for"), value_type=list[str]),
            }
        ],
        output="screen",
    )
    nodes = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(HERE / "fusion.launch.py")),
        launch_arguments={
            "params_file": LaunchConfiguration("params_file"),
            "namespace": LaunchConfiguration("namespace"),
            "use_sim_time": "true",
        }.items(),
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(SHARE / "config" / "fusion.rviz")],
        parameters=[{"use_sim_time": True}],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription(
        [
            *ARGUMENTS,
            rviz,
            when_active("pose_node", "fusion_node", then=player),
            nodes,
            RegisterEventHandler(
                OnProcessExit(
                    target_action=player,
                    on_exit=[EmitEvent(event=Shutdown(reason="the playback has ended"))],
                )
            ),
        ]
    )
