"""Both nodes on a simulated drive: ``ros2 launch mm_fusion demo.launch.py``.

The launch ends when the drive does.
"""

from pathlib import Path

from launch import LaunchDescription
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
from launch_ros.parameter_descriptions import ParameterValue

HERE = Path(__file__).resolve().parent
SHARE = HERE.parent

ARGUMENTS = [
    DeclareLaunchArgument("seed", default_value="1", description="seed of the drive"),
    DeclareLaunchArgument(
        "duration_s", default_value="30.0", description="length of the drive in seconds"
    ),
    DeclareLaunchArgument("scenario", default_value="town", description="what happens"),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(SHARE / "config" / "fusion.yaml"),
        description="parameter file of both nodes",
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="show it in RViz"),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of all nodes"),
]


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` runs."""
    simulator = Node(
        package="mm_fusion",
        executable="simulator_node",
        name="simulator_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {
                "seed": ParameterValue(LaunchConfiguration("seed"), value_type=int),
                "duration_s": ParameterValue(LaunchConfiguration("duration_s"), value_type=float),
                "scenario": ParameterValue(LaunchConfiguration("scenario"), value_type=str),
                "wait_for": ["lidar/points", "camera/image_raw", "imu/data"],
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
            nodes,
            simulator,
            RegisterEventHandler(
                OnProcessExit(
                    target_action=simulator,
                    on_exit=[EmitEvent(event=Shutdown(reason="the drive has ended"))],
                )
            ),
        ]
    )
